// Burst.java URL ROUNDS REQUESTS: requests at once with the HTTP/2 client of the JDK.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpClient.Version;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

class Burst {
    /** The certificate is of another name, which is not what this suite tests. */
    static final class TrustAll extends X509ExtendedTrustManager {
        public void checkClientTrusted(X509Certificate[] chain, String type) {}
        public void checkServerTrusted(X509Certificate[] chain, String type) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }

    public static void main(String[] arguments) throws Exception {
        int rounds = Integer.parseInt(arguments[1]);
        int requests = Integer.parseInt(arguments[2]);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, new TrustManager[] {new TrustAll()}, null);
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0])).timeout(Duration.ofSeconds(20)).build();
        int answered = 0;
        for (int round = 0; round < rounds; round++) {
            HttpClient client = HttpClient.newBuilder().version(Version.HTTP_2).sslContext(tls).build();
            // The first request opens the connection that the others share.
            client.send(request, HttpResponse.BodyHandlers.ofString());
            var calls = IntStream.range(0, requests)
                .mapToObj(number -> client.sendAsync(request, HttpResponse.BodyHandlers.ofString())
                    .thenApply(answer -> answer.statusCode() == 200 && answer.version() == Version.HTTP_2)
                    .exceptionally(failure -> false))
                .toList();
            answered += calls.stream().map(CompletableFuture::join).mapToInt(good -> good ? 1 : 0).sum();
        }
        System.out.println(answered + " answered");
        System.exit(0);
    }
}
